"""Launch files carried out or looked into, on the real launch or on a stand-in."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
TRACKER = LAUNCH / "tracker.launch.py"
