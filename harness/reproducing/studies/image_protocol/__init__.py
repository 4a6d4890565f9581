"""Four protocols for ImageNet: RISE, SRG, eMPRT and IDSDS."""
