"""Does a trainer do its accounts right? The checks that published baselines failed, on a recipe, ours or TRL's."""
