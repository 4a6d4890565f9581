"""Pictures of what a model computes (``of_model``) and of what a run measured (``of_run``)."""
