"""What the explorer says in and below its figures, and of what is not there."""

# Overview
UNFINISHED = (
    "This run is not finished: {steps} {verb} missing. pbb-probe run --config {config} --out {out} goes on where it "
    "stopped."
)
TRANSFER = (
    "One activation of a run of another program on another input is put into a run; the colours say what came "
    "with it: the program, the input, everything, a state, some steps. Layers from top to bottom."
)
BEHAVIOUR = "Dotted: the share of the most common answer."

# Layer by layer
READ = "read: probe of {variable} ({site})"
SAID = "said: logit lens of {variable}"
USED = "used: recovery, {swap} swapped ({site})"
CARRIED = "carried: {hypothesis}, {steps} ({site})"
LAYERS = "Layer by layer at the {role}, {calls}"
TWO_GROUPS = (
    "Above, both groups with 95 % bands from resampling programs; below, their difference, marked where it is "
    "significant over all places of its table (adjusted p < 0.05)."
)
ABSENT = " Not measured here: {curves}."
SELECTED = "{n} selected prompts and the others, at the {role}, {calls}"
OF_SELECTION = (
    "Compared over programs with {draws:,} draws; one with prompts on both sides counts on either. Of a selection "
    "made by looking at these prompts p is a guide and no test."
)
SELECT_ELSEWHERE = "No prompts are selected: draw a lasso around some of them under Activations, and come back."
PROBE_AND_CONTROLS = "The probe of {variable} at the {role} beside its controls"
CONTROLS = "Thin lines are controls on with_io prompts; what the probe reads counts by how far it is above them."

# Program and Your own prompt
CALL = "{program}({call}) = {output}"
RECOVERY = "Recovery of {program}({call}) = {answer} in {beside}"
PATCHED = (
    "One activation ({site}) of the first call is put into the second: 1 brings the first call's answer back, 0 "
    "changes nothing. Tokens that both calls share carry nothing before the first that differs."
)
READINGS = "What is read of {program}({call}) after each layer"
HELD_OUT = (
    "Probes fitted on other programs than this one, and the model's own unembedding. The value that is read "
    "stands in the cell, its probability is the colour, and right values are outlined."
)
ANSWERS = "What comes next in: {text}"
ANSWER_HAS = "The answer {answer} has {probability:.1%}."
ANSWER_ABSENT = "The answer {answer} is not here, or is several tokens."
SHOWN, NEVER_SHOWN = "its answer was shown in training", "its answer was never shown"
NOT_AN_INPUT = "not an input of the corpus"
TYPED_RECOVERY = "Recovery of {answer} where the text beside it has {beside}"
TYPED_PATCHED = "One activation ({site}) of the text is put into the text beside it, token by token."

# Attention
HEADS = "Heads at the {role} that bring {answer} back where {program}({call}) = {output}"
EACH_HEAD = "Each head's output (z) of {program}({call}) is put into the other call, one at a time."
ATTENTION = "Where heads look in: {text}"
LOOKING = "Rows are the tokens that look, columns those that are looked at. The number is the head's recovery."

# Activations
ACTIVATIONS = "{site} at the {role}, {by}"
LAID_OUT = (
    "Each layer is laid out on its own, fitted on with_io prompts and turned to agree with the layer below; the "
    "axes stay as they are from layer to layer. "
)
DRAW_A_LASSO = "Draw a lasso to select prompts."
SELECT_BY_VALUE = "Select prompts by value, or with a lasso in two dimensions."
EXPLAINED = " These axes hold {share:.0%} of the variance at layer {layer}."
SELECT_HERE = "No prompts are selected: draw a lasso around some points."

# Compare runs
NO_OTHER_RUN = "There is no other run in {folder}: keep runs in one folder to compare them."
SAME_SETTINGS = "Both runs have the same settings."
IN_SHORT = "{run} in short, of calls answered right"
ONSETS = "Where, {group}, {calls}"
TRANSFER_OF = "What each place carries, {group}, {steps}, {calls}"
COMPARED = "{measure} ({at}), {group}, {calls}"
ONE_RUN_EACH = "With one run on each side programs are resampled, and nothing is said of other finetunings."
