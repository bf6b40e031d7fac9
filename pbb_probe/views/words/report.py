"""What stands around the figures and tables of a study's report: headings, what to know before looking, how to read."""

TITLE = "Where are programs evaluated? {0.base}, {0.curriculum}, seed {0.seed}"
SUBTITLE = (
    "with_io: programs learned from source and input/output examples. without_io: from source only. "
    "Intervals in brackets are 95 %, from resampling whole programs. Blocks are counted from 0."
)
WITH_PICTURES = "The same with interactive figures and all tables: [{page}]({page})."
WITHOUT_PICTURES = "There are no pictures, as no browser was there to draw them: the figures are in [{page}]({page})."

# Sections: a heading, and what to know before looking
BEHAVIOUR = (
    "Behaviour",
    "A map of layers means something only where answers are better than chance and than those of the models that "
    "were not taught the programs.",
)
WHERE = (
    "Where: by use and by reading",
    "A variable is used in the block in which it leaves its place or is written, by the transfer map or by "
    "recovery. It is read after the block from which on a probe or the logit lens tells it at the answer position. "
    "In the transfer map one activation of a run of another program on another input is put into a run, and the "
    "answer says what came with it: the program, the input, everything, the state after a step, the steps up to it "
    "or after it. Each of these leads to another answer; other: the answer is none of them.",
)
USED = (
    "What is used: activation patching and controls of the transfer map",
    "One activation of the clean run is put into the corrupted run. With the input swapped it shows where the "
    "input is carried, with the program swapped where the program is. Recovery 1 restores the clean answer, 0 "
    "changes nothing.",
)
READ = (
    "What can be read: linear probes",
    "Probes are fitted on with_io programs and read with_io programs that were held out, and without_io programs. "
    "Controls: a control task (selectivity), values dealt anew among the prompts of a program (permutation) or "
    "among all of them (shuffled), the most common value (chance), states under another meaning of the operators "
    "(relabelled), the untrained and the base model, and the embeddings of the places' tokens alone. That "
    "something can be read does not say that it is used.",
)
SUBSPACES = (
    "Is it read because it is used? Probes' subspaces put from one run into another",
    "Only what a probe reads is taken from a run of another program on another input, as in the transfer map. "
    "Where the answer keeps to its own run (nothing), the probe reads what does not decide the answer.",
)
LENS = (
    "What the model itself could say: the lens and the outcomes",
    "logit: the residual stream after a block goes straight to the final norm and unembedding. stripped: the "
    "blocks above run too, behind nothing but the residual's own token (context-stripped decoding, arXiv "
    "2606.17648). Resolved: probe and stripped decoding are both right at some layer, and so is the answer; "
    "overprocessed: the answer is not; misresolved and unresolved: they never are both right, and the last quarter "
    "of the layers is sure of some value or is not; no brewing: no probe is ever right.",
)
DIFFERENCES = (
    "Differences between the groups",
    "Onsets by blocks, with p from permuting programs. That the onsets of both groups fall on the same block does "
    "not show that they are equal: a block is coarse. Places of one measure are compared one by one, with p "
    "adjusted over all of them.",
)
NO_PLACE_DIFFERS = " No single place differs after adjustment."

# How a figure is read, behind what there is to see in it
HOW_BEHAVIOUR = "A bar is the share of calls answered correctly, with its interval; the dotted line is chance."
HOW_ONSETS = (
    "Filled marks say in which block a variable is used, open ones after which block it is read, with their "
    "intervals; what is read need not be used."
)
HOW_TRANSFER = (
    "A bar a layer: the answers of pairs of runs after one activation of the other run was put in there, by what "
    "came with it. Layers from top to bottom. Where the colour of the program ends at the name, the program has "
    "left it."
)
HOW_RECOVERY = (
    "Where the curve at the name falls and the one at the answer rises, the program moves. A filled marker: the "
    "groups differ there."
)
HOW_PATCHING = "On the right the difference of the groups, starred where adjusted p < 0.05."
HOW_PROBES = (
    "Accuracy by layer for each place (rows) and target (columns); thin lines are controls on with_io prompts. A "
    "filled marker: the groups differ there."
)
HOW_SELECTIVITY = "Accuracy minus that on the control task (Hewitt and Liang 2019)."
HOW_ACROSS = "If both groups use the same code in the same place, probes of either read the other as well as its own."
HOW_COSINES = "Between the groups they can be no higher than within them."
HOW_INTERCHANGE = "Layers from top to bottom."
HOW_LENS = "Dotted: values of other prompts, what comes by luck."
HOW_OUTCOMES = "The fainter bars are what comes by luck."
HOW_ONSET_DIFFERENCES = "A mark right of zero: the onset is later in with_io."

# Tables
FINETUNED_MODEL, ALL_MODELS = "The finetuned model", "All models"
ONSETS_OF, ALL_ONSETS = "Onsets with their intervals, {calls}", "Onsets of all subsets of calls"
CONTROLS_BESIDE = (
    "The transfer map beside its controls: the share of all pairs that follow each hypothesis at the place where "
    "most do"
)
CONTROLS = "These places with their intervals"
DIFFERING_PLACES = "Places where the groups differ (adjusted p < 0.05), calls answered correctly"
ONSET_DIFFERENCES = "Differences of onsets"
