"""FickleNet: localization maps of many random selections of hidden units (Lee et al., CVPR 2019)."""
