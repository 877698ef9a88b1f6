"""Owns the command line: parses arguments, calls `app` and the rooms, and prints for people."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from proxy.cli import audit, desk, diff, keys, policies, price, records, replay, retention, serve, sessions, testing
from proxy.errors import ConfigError, HandrailError
from proxy.policy import PolicyProblems

COMMANDS = (serve, policies, testing, records, replay, diff, sessions, desk, audit, retention, price, keys)
"""Each module adds its commands to the parser; a command's `run` returns the exit status."""

EXAMPLES = """examples:
  handrail serve                          run on embedded defaults
  handrail serve --config handrail.yaml   run with a configuration
  handrail check                          say everything that is wrong with ./handrail.yaml and its policies
  handrail test rules/                    run the policies' own tests
  handrail tail --follow                  watch calls as they are recorded
  handrail explain ex_0f3a…               say what was decided about one call, and why
  handrail explain --policy rules/        say what policies come to, rule by rule
  handrail replay --policies new/         say which kept calls other policies would decide differently
  handrail diff --since 24h               say what the candidate would have decided otherwise
  handrail sessions show se_0f3a…         say all that is known of a conversation
  handrail approvals list                 see which actions wait for a human
  handrail escalations list               see which conversations wait for one
  handrail audit verify                   say whether the audit log is as it was signed
  handrail retention --dry-run            say what is kept for longer than the configuration says
  handrail price gpt-5-mini               say what a model costs
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0 fine, 1 the answer is no, 2 the question was wrong."""
    parser = argparse.ArgumentParser(
        prog="handrail",
        description="A sidecar guardrail proxy: policy, budgets, routing and records on every model call.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"handrail {version('handrail')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        status = int(chosen.run(chosen))
        # Here, and not at interpreter exit: a reader that has left must be noticed where it is understood.
        sys.stdout.flush()
        return status
    except (ConfigError, PolicyProblems) as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        count = len(error.problems)
        fate = "; nothing was started" if chosen.command == "serve" else ""
        print(f"handrail: {count} problem{'s' * (count != 1)}{fate}", file=sys.stderr)
        return 2
    except HandrailError as error:
        print(f"handrail: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`handrail tail | head`): there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
