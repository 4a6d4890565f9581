"""Average drop and increase in confidence on Imagenette, as torch-cam measures them."""
