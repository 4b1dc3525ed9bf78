"""Write config/sros2_policy.xml from the running node's graph, and put it into docs/security.md."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]

FENCE = "```xml\n"


def main() -> None:
    """Start the node and write both files."""
    from ckd_core.files import write_text
    from testkit.reliability.graph import POLICY, full_graph, parse_policy, policy_xml

    graph = full_graph()
    policy = policy_xml(graph)
    assert parse_policy(policy) == graph  # noqa: S101  # what is written can be read
    write_text(POLICY, policy)
    page = ROOT / "docs" / "security.md"
    before, _, rest = page.read_text().partition(FENCE)
    _, _, after = rest.partition("```")
    write_text(page, f"{before}{FENCE}{policy.strip()}\n```{after}")
    print(f"wrote {POLICY.relative_to(ROOT)} and docs/security.md")


if __name__ == "__main__":
    main()
