"""What the evidence means: from what was seen to findings. No rule can reach the host."""
