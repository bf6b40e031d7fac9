"""What the explorer says in and below its figures, and of what is not there."""

# Overview
UNFINISHED = (
    "This run is not finished: {steps} {verb} missing. pbb-probe run --config {config} --out {out} goes on where it "
    "stopped."
)
TRANSFER = (
    "One activation is copied from a donor prompt, with another program and another input, into the base prompt; the "
    "colours show what came with it: the program, the input, everything, a state or some steps (of loops: passes). "
    "Layers from top to bottom."
)
BEHAVIOUR = "Dotted: the share of the most common answer."

# Layer by layer
READ = "read: probe of {variable} ({site})"
SAID = "said: logit lens of {variable}"
USED = "used: recovery, {swap} swapped ({site})"
CARRIED = "carried: {hypothesis}, {steps} ({site})"
LAYERS = "Layer by layer at the {role}, {calls}"
GROUPS_BY_LAYER = (
    "Above, the groups with 95 % bands from resampling programs; below, their differences two by two, marked where "
    "they are significant over all places of their table (adjusted p < 0.05)."
)
ABSENT = " Not measured here: {curves}."
SELECTED = "{n} selected prompts and the others, at the {role}, {calls}"
OF_SELECTION = (
    "Resampled over programs, {draws:,} draws; a program with prompts on both sides counts on each. For a selection "
    "made by looking at these prompts, p is a guide and not a test."
)
SELECT_ELSEWHERE = "No prompts are selected: draw a lasso around some of them under Activations, and come back."
PROBE_AND_CONTROLS = "The probe of {variable} at the {role} beside its controls"
BOTH = "{first} and {second}"
ALL_PAIRS = "all, two by two"
CONTROLS = "Thin lines are controls on with_io prompts: what matters is how far the probe is above them."

# Program and Your own prompt
CALL = "{program}({call}) = {output}"
RECOVERY = "Recovery of {program}({call}) = {answer} in {beside}"
PATCHED = (
    "One activation ({site}) of the first call is patched into the second: 1 restores the first call's answer, 0 "
    "changes nothing. Tokens before the first one that differs carry nothing."
)
READINGS = "What is read of {program}({call}) after each layer"
HELD_OUT = (
    "Probes fitted on programs other than this one, and the model's own unembedding. Each cell holds the value that "
    "is read; its colour is the probability, and correct values are outlined."
)
ANSWERS = "What comes next in: {text}"
ANSWER_HAS = "The answer {answer} has {probability:.1%}."
ANSWER_ABSENT = "The answer {answer} is not among these, or is several tokens."
SHOWN, NEVER_SHOWN = "its answer was shown in training", "its answer was never shown"
NOT_AN_INPUT = "not an input of the corpus"
OF_GROUP = {"io_only": "io_only (the model saw examples of it, and never this code)"}
DECISIVE = "yes, no simpler program gives this answer"
NOT_DECISIVE = "no, explained by: {explained_by}"
CALLS_OF = "Calls of {program}: {n} of {of} are decisive"
TYPED_RECOVERY = "Recovery of {answer} where the text beside it has {beside}"
TYPED_PATCHED = "One activation ({site}) of the text is patched into the text beside it, token by token."

# Attention
HEADS = "Heads at the {role} that restore {answer} where {program}({call}) = {output}"
EACH_HEAD = "Each head's output (z) in {program}({call}) is patched into the other call, one at a time."
ATTENTION = "Where heads look in: {text}"
LOOKING = "Rows are queries, columns are keys. The number is the head's recovery."

# Activations
ACTIVATIONS = "{site} at the {role}, {by}"
LAID_OUT = (
    "Each layer is projected on its own, fitted on with_io prompts and rotated to agree with the layer below; the "
    "scale of the axes is the same at all layers. "
)
DRAW_A_LASSO = "Draw a lasso to select prompts."
SUCH_AS = "output = 3, group = without_io, decisive = True"
SELECT_BY_VALUE = "Select prompts by value, or with a lasso in two dimensions."
EXPLAINED = " These axes explain {share:.0%} of the variance at layer {layer}."
SELECT_HERE = "No prompts are selected: draw a lasso around some points."

# Compare runs
NO_OTHER_RUN = "There is no other run in {folder}: keep runs in one folder to compare them."
SAME_SETTINGS = "Both runs have the same settings."
IN_SHORT = "{run} in short"
ONSETS = "Where, {group}, {calls}"
TRANSFER_OF = "What each place carries, {group}, {steps}, {calls}"
TWO_GROUPS = "{measure} ({at}), {first} and {second} in each run, {calls}"
NOT_EVALUATED = "{group}, {steps}: {sentence}."
COMPARED = "{measure} ({at}), {group}, {calls}"
ONE_RUN_EACH = "With one run on each side, programs are resampled: this says nothing about other finetunings."
