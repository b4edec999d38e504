"""Judges: models behind an endpoint of OpenAI's protocol that say how good a completion is."""
