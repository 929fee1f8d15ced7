"""Schedules: which moments a cron line means, which pipelines have one, and the process that starts them."""
