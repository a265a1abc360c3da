"""What is wrong, in words: the guide's troubleshooting list, and the installation's own, as checks.

The command line and the dashboard both show these findings; nothing here prints or renders.
"""

from dispatcher.diagnosis.finding import Finding, Verdict, Words, any_failed
from dispatcher.diagnosis.installation import examine_installation
from dispatcher.diagnosis.trial import send_test
from dispatcher.diagnosis.webhook import examine_webhook

__all__ = [
    "Finding",
    "Verdict",
    "Words",
    "any_failed",
    "examine_installation",
    "examine_webhook",
    "send_test",
]
