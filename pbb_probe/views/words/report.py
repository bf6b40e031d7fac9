"""What stands around the figures and tables of a study's report: headings, what to know before looking, how to read."""

TITLE = "Where are programs evaluated? {0.base}, {0.curriculum}, seed {0.seed}"
SUBTITLE = (
    "with_io: programs learned from source and input/output examples. without_io: from source only. io_only: from "
    "examples only, a control for what the source adds. Intervals in "
    "brackets are 95 %, from resampling whole programs. Blocks are counted from 0."
)
WITH_PICTURES = "The same report with interactive figures and all tables: [{page}]({page})."
WITHOUT_PICTURES = "There are no pictures, as there was no browser to draw them: the figures are in [{page}]({page})."

# Sections: a heading, and what to know before looking
BEHAVIOUR = (
    "Behaviour",
    "A map of layers means something only where answers are better than chance, and better than those of the models "
    "that were not taught the programs. What counts are decisive calls, which no simpler program answers alike (a step "
    "left out, another order, the input itself, the best guess), and of programs without examples those of functions "
    "that no program with examples computes. All calls and known functions are further rows.",
)
WHERE = (
    "Where: by use and by reading",
    "A variable is used in the block in which it leaves its place or is written, as the transfer map or recovery "
    "shows. It is read after the block from which on a probe or the logit lens tells it at the answer position. The "
    "transfer map copies one activation from a donor prompt, which asks for another program and another input, into "
    "the base prompt; the base's answer then shows what came with it: the program, the input, everything, the state "
    "after a step or a pass of a loop, or the steps or passes up to it or after it. Each of these predicts a different "
    "answer, or counts only where it does; other means that the answer is none of them.",
)
USED = (
    "What is used: activation patching and controls of the transfer map",
    "One activation of the clean prompt is patched into the corrupted prompt. With the input swapped this shows where "
    "the input is carried, with the program swapped where the program is. A recovery of 1 restores the clean answer, "
    "0 changes nothing.",
)
READ = (
    "What can be read: linear probes",
    "Probes are fitted on with_io programs and read held-out with_io programs and those of other groups. Controls: a "
    "control task (selectivity), values shuffled among the prompts of a program (permutation) or among all of them "
    "(shuffled), the most common value (chance), states under another meaning of the operators (relabelled), the "
    "untrained and the base model, and the token embeddings alone. That something can be read does not show that it "
    "is used.",
)
SUBSPACES = (
    "Is it read because it is used? Patching the probes' subspaces",
    "As in the transfer map, but only the subspace that a probe reads is copied from the donor prompt. Where the "
    "answer stays the base's own (nothing), what the probe reads does not decide the answer.",
)
LENS = (
    "What the model itself could say: the lens and the outcomes",
    "logit: the residual stream after a block goes straight to the final norm and unembedding. stripped: the "
    "blocks above run too, but see nothing except the residual's own token (context-stripped decoding, arXiv "
    "2606.17648). Resolved: probe and stripped decoding are both right at some layer, and so is the answer. "
    "Overprocessed: both are right at some layer, but the answer is wrong. Misresolved and unresolved: they are never "
    "both right, and the last quarter of the layers is confident of some value (misresolved) or of none (unresolved). "
    "No brewing: no probe is ever right.",
)
DIFFERENCES = (
    "Differences between the groups",
    "Groups are compared two by two. Onsets by block, with p from permuting programs. Onsets of two groups in the same "
    "block are not shown to be equal: a block is coarse. Places of one measure are compared one by one, with p "
    "adjusted over all of them. What is common to with_io and io_only is not evaluation of code.",
)
NO_PLACE_DIFFERS = " No single place differs after adjustment."

NOT_EVALUATED = "{group}, {steps}"
"""What the gate's sentence is of."""

# How a figure is read, after what there is to see in it
HOW_BEHAVIOUR = "A bar is the share of calls answered correctly, with its interval; the dotted line is chance."
HOW_DECISIVE_BEHAVIOUR = (
    "A full bar is the share of decisive calls answered right, of programs without examples those of new functions, "
    "with its interval; the pale bar behind it is of all calls of all programs. The dotted line is chance."
)
HOW_EFFECTIVE = (
    "Effective is the program of the family, or of the program's mutants, that the answers to all its inputs fit best. "
    "A bar holds the shares of programs by what differs from the one that was asked for."
)
HOW_RECITED = (
    "Recalled is a program whose code, written when it is asked for, gives its outputs; computed is one that the "
    "answers to its inputs fit. Programs without code can be computed from examples, and not recalled."
)
HOW_ONSETS = (
    "Filled marks show the block in which a variable is used, open ones the block after which it is read, with "
    "their intervals. What is read need not be used."
)
HOW_TRANSFER = (
    "One bar per layer, from top to bottom: the answers of pairs after one of the donor's activations was patched in, "
    "coloured by what came with it. Where the program's colour ends at the name, the program has left it."
)
HOW_RECOVERY = (
    "Where the curve at the name falls and the one at the answer rises, the program moves. A filled marker: the "
    "group differs there from another one."
)
HOW_PATCHING = "Beside or below the groups their differences, starred where adjusted p < 0.05."
HOW_PROBES = (
    "Accuracy by layer for each role (rows) and target (columns); thin lines are controls on with_io prompts. A "
    "filled marker: the group differs there from another one."
)
HOW_SELECTIVITY = "Accuracy minus that on the control task (Hewitt and Liang 2019)."
HOW_ACROSS = "If groups use the same code in the same place, probes of one group read another as well as their own."
HOW_COSINES = "Cosines between the groups can be no higher than those within them."
HOW_INTERCHANGE = "Layers from top to bottom."
HOW_LENS = "Dotted: accuracy on the values of other prompts, which is chance."
FIRST_TOKEN = " Values of several tokens are told by the first token that is not common to all of them."
HOW_OUTCOMES = "The fainter bars are what chance gives."
HOW_ONSET_DIFFERENCES = "A mark to the right of zero: the onset is later in the first of the two groups."

# Tables
LEAK = (
    "What probes gain from having seen the function under another name: read of held-out programs and of held-out "
    "functions, where it is most"
)
FINETUNED_MODEL, ALL_MODELS = "The finetuned model", "All models"
ONSETS_OF, ALL_ONSETS = "Onsets with their intervals, {calls}", "Onsets by subset of calls"
CONTROLS_BESIDE = (
    "The transfer map beside its controls: the share of all pairs that follow each hypothesis at its best place"
)
CONTROLS = "The same places with their intervals"
DIFFERING_PLACES = "Places where the groups differ (adjusted p < 0.05), calls answered correctly"
ONSET_DIFFERENCES = "Differences of onsets"
