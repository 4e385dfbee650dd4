"""The static stage of SSDD: at each pixel one of two masks that stay as they are."""
