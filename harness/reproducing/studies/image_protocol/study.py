"""Protocols on ImageNet: RISE (1806.07421), SRG (2401.06654), eMPRT (2405.02383) and IDSDS (2407.11910).

The paper's file states blocks as ``harness.run`` takes them, and what the user's folder has to hold. Everything is
checked before anything is measured. Each part of a block is a run that goes on after a kill. The small scale runs the
same code on few images with a small network.
"""

from harness.reproducing.findings import Findings
from harness.reproducing.studies.image_protocol.emprt import emprt_findings
from harness.reproducing.studies.image_protocol.idsds import idsds_findings
from harness.reproducing.studies.image_protocol.rise import rise_findings
from harness.reproducing.studies.image_protocol.runs import measured_images
from harness.reproducing.studies.image_protocol.srg import srg_findings
from harness.reproducing.study import StudySetting

FINDINGS = {"rise": rise_findings, "srg": srg_findings, "emprt": emprt_findings, "idsds": idsds_findings}


def study(setting: StudySetting) -> Findings:
    """Measure the blocks of a paper's file, and test the claims of its protocol on their scores."""
    if setting.scale == "small" and setting.data is not None:
        setting.say(f"scale=small measures what is here; {setting.data} is not read")
    return FINDINGS[setting.sizes["protocol"]](measured_images(setting))
