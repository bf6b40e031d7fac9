"""Finetuning on programs: base models, curricula, one trainer a stage, and what the result can do."""
