"""AffinityNet: affinities between neighbouring pixels, learnt from confident regions of localization maps."""
