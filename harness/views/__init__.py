"""Pictures of models at work (``of_model``) and of a run's scores (``of_run``), and the report of runs."""
