"""Training: fine-tuning on masks, distillation from MedSAM."""
