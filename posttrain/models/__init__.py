"""Language models: load, adapt with LoRA, pack rows, attend over them, score them, save them. Needs torch and transformers."""
