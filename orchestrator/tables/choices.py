"""What the options of ``fatefront tables`` may be; light, for the shell completes them."""

CHOICES = {
    "--format": ("md", "latex", "csv"),
    "--style": ("default", "paper"),
    "--split": ("validation", "test"),
    "--mode": ("corrected", "paper"),
    "--reference": ("vanilla", "own"),
    "--published": ("match", "all", "none"),
    "--seeds": ("selection", "fresh"),
    "--intervals": ("patients", "seeds"),
}
