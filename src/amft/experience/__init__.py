"""What a step trains on: prompts and demonstrations, rollouts, advantages."""
