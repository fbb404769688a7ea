"""Generated photographs of people, in the raw layouts of MPII and COCO; all of it is our own design."""
