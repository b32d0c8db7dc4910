"""How the task classifier of `pipeline.classify` is made: collect, make prompts, train."""
