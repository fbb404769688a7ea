"""Training on ground truth alone: teachers, and students without distillation."""
