"""Documents for people: pages of PDF/A and the fonts that they embed."""
