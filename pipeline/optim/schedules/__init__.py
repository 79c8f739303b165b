"""Learning-rate schedules that are built in, one per module; `train.schedule` chooses one."""
