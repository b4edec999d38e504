"""Engines that give rewards to rows of files: functions, reward models and judges."""
