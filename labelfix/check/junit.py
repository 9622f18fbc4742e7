"""The gates as JUnit XML."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from labelfix.check.gates import CheckResult

__all__ = ["junit_report"]


def junit_report(result: CheckResult, run: Path) -> str:
    """Return the gates as JUnit XML: one test case per gate, and a skipped one per class without a trusted row."""
    failed = sum(not gate.passed for gate in result.gates)
    suite = ET.Element(
        "testsuite",
        name="labelfix check",
        tests=str(len(result.gates) + len(result.skipped)),
        failures=str(failed),
        errors="0",
        skipped=str(len(result.skipped)),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("run", str(run)), ("run_id", result.run_id)):
        ET.SubElement(properties, "property", name=name, value=_xml_text(value))
    for gate in result.gates:
        case = ET.SubElement(
            suite, "testcase", classname=f"labelfix.{gate.name}", name=_xml_text(gate.subject)
        )
        message = _xml_text(gate.said)
        if not gate.passed:
            ET.SubElement(case, "failure", message=message, type=gate.name).text = message
        ET.SubElement(case, "system-out").text = message
    for name in result.skipped:
        case = ET.SubElement(suite, "testcase", classname="labelfix.max-noise", name=_xml_text(name))
        ET.SubElement(case, "skipped", message="no trusted row has this label")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml_text(text: str) -> str:
    """Return text in which U+FFFD replaces the characters that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
