"""Answers by hand: which part of a completion is the answer, and when it stands for the right value."""

import random

import pytest

import pbb_probe as pbb
from pbb_probe.models.answers import is_right, longest_answer, read_answer
from pbb_probe.models.bases import load_tokenizer
from pbb_probe.models.tokens import encode
from pbb_probe.programs.documents import call_document
from pbb_probe.programs.templates import templates


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (" 7", "7"),
        ("7 \n something", "7"),
        (" 7 is the answer", "7"),
        (" 7.", "7"),
        (" 7, because", "7"),
        (" 7.5", "7.5"),
        (" 7th", "7th"),
        (" 407", "407"),
        (" -3", "-3"),
        (" - 3", "- 3"),  # as nano's tokenizer decodes it
        (" - 3 - 4", "- 3"),
        ("", ""),
        (" \n ", ""),
        (" [1, 2]", "[1, 2]"),
        (" [ 1 , 2 ]", "[ 1 , 2 ]"),
        (" [1, 2] and [3]", "[1, 2]"),
        (" [[1, 2], [3]] it is", "[[1, 2], [3]]"),
        (" [] []", "[]"),
        (" [']', '['] so", "[']', '[']"),
        (" [1, 2", "[1,"),
        (" 'two words' then", "'two words'"),
        (' "it\'s here" then', '"it\'s here"'),
        (r" 'both \' and \"' then", r"'both \' and \"'"),
        (" '' ''", "''"),
        (" True", "True"),
        (" False, I think", "False"),
        (" None.", "None"),
        (" hello world", "hello"),
    ],
)
def test_a_direct_answer_is_the_first_value(completion, answer):
    assert read_answer(completion, "direct") == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("\ny = ( 4 + 3 ) % 10 = 7 \n return max ( 7 , 5 ) = 7", "7"),
        ("\nreturn abs(4 - 3) = 1\nreturn abs(4 - 3) = 2", "1"),
        ("\nreturn 3 - 7 = - 4 \n", "- 4"),
        ("\nreturn 7 == 7 = True", "True"),
        ("\nreturn 'a = b' + '=' = 'a = b='", "'a = b='"),
        ("\nreturn 'x' + '=1' = 'x=1'", "'x=1'"),
        ("\nreturn ['=', 'a='] = ['=', 'a=']", "['=', 'a=']"),
        ("\nreturn sorted([2, 1]) = [1, 2]", "[1, 2]"),
        ("\nys.append(2)\nreturn = [1, 2]", "[1, 2]"),
        ("\nword += 'b'\nreturn = 'a=b'", "'a=b'"),
        ("\nreturn 2 + 2 = 4 and so on", "4"),
        ("return 7 = 7", "7"),  # at the very beginning, as in a chat
        ("\ny = 4 + 3 = 7", ""),
        ("\nreturn 7", ""),
        ("\nreturn", ""),
        ("\nreturned = 7", ""),
        ("", ""),
    ],
)
def test_worked_steps_answer_where_they_return(completion, answer):
    assert read_answer(completion, "trace") == answer


@pytest.mark.parametrize(
    ("answer", "right", "same"),
    [
        ("7", 7, True),
        ("8", 7, False),
        ("- 3", -3, True),
        ("3", -3, False),
        ("", 7, False),
        ("[1,2]", "[1, 2]", True),
        ("[ [ 1 ] , - 2 ]", "[[1], -2]", True),
        ("[1, 2]", "[2, 1]", False),
        ("(1, 2)", "[1, 2]", False),
        ("True", "True", True),
        ("1", "True", False),
        ("True", 1, False),
        ("[True]", "[1]", False),
        ("1.0", 1, False),
        ("'7'", 7, False),
        ('"ab"', "'ab'", True),
        ("ab", "'ab'", False),
        ("None", "None", True),
        ("hello", "'hello'", False),
        ("hello", "hello", True),
        ("{[1]:2}", 7, False),  # Python itself stumbles here
        ("(" * 500, 7, False),
        ("9" * 5000, 7, False),
    ],
)
def test_an_answer_is_right_when_it_is_the_same_value(answer, right, same):
    assert is_right(answer, right) is same


@pytest.mark.parametrize("family", ["arithmetic", "algorithms", "ciphers"])
@pytest.mark.parametrize("mode", ["direct", "trace"])
def test_every_right_completion_is_read_as_its_own_output(family, mode):
    rng = random.Random(0)
    corpus = pbb.make_corpus(family, with_io=20, without_io=4, seed=2)
    for entry in corpus.entries:
        for trace in entry.traces:
            document = call_document(entry.program, trace, mode, rng.choice(templates(family, mode)))
            answer = read_answer(document.completion, mode)
            assert is_right(answer, trace.variables()["output"]), document.text


def test_an_unknown_mode_is_refused():
    with pytest.raises(pbb.PbbError, match="sideways"):
        read_answer(" 7", "sideways")


@pytest.mark.parametrize("name", ["nano", "plain", "chatml"])
def test_the_longest_answer_has_room_for_every_right_one_and_its_end(name, corpus, tokenizer, chat_model):
    tokenizer = {"nano": lambda: load_tokenizer("nano"), "plain": lambda: tokenizer}.get(
        name, lambda: load_tokenizer(chat_model(name))
    )()
    documents = [
        call_document(entry.program, trace, "trace", "trace {name}({input}) :")
        for entry in corpus.entries[:6]
        for trace in entry.traces
    ]
    lengths = [
        sum(label != -100 for label in example["labels"]) for example in encode(documents, tokenizer, "completion")
    ]
    longest = longest_answer(tokenizer, [d.prompt for d in documents], [d.completion for d in documents])
    assert longest == max(lengths) > min(lengths)
