"""Where data sets come from: digits by name, image folders, torchvision, Hugging Face, a user's function."""
