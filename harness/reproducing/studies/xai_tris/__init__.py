"""XAI-TRIS on images of 8 x 8 pixels (2306.12816)."""
