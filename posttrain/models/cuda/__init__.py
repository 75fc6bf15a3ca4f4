"""What models do otherwise on a CUDA GPU. Nothing here is used on other devices."""
