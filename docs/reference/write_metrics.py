"""Write metrics.md from the table in the code: `python docs/reference/write_metrics.py`."""

from pathlib import Path

from gspo_rs.train.metric_table import page

if __name__ == "__main__":
    Path(__file__).with_name("metrics.md").write_text(page(), encoding="utf-8")
