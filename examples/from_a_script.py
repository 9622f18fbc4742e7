"""The main job from a script or a notebook: clean, look, hold against limits, export.

    python examples/from_a_script.py [FOLDER]

It writes the demo data to FOLDER (labelfix-script). In a notebook, run the body of `main` cell by cell; the tables
are Arrow tables, and ``.to_pandas()`` shows them.
"""

import sys
from pathlib import Path

import labelfix
from labelfix.demo import write_demo_data


def main() -> None:
    """Go through a run step by step."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "labelfix-script")
    write_demo_data(folder, force=True)

    result = labelfix.clean(
        folder / "images",
        folder / "labels.csv",
        folder / "trusted.csv",
        out=folder / "labelfix-out",
        force=True,
        image_size=64,
        train="head",
        max_fix_error=0.3,
    )
    noise = result.summary["estimates"]["noise_rate"]
    print(f"noise rate {noise['value']:.1%} ({noise['low']:.1%} to {noise['high']:.1%})")

    for row in result.suspects.slice(0, 3).to_pylist():
        print(f"{row['image']}: {row['given_label']} -> {row['predicted_label']} ({row['confidence']:.3f})")

    # Every annotator with an interval; the same as annotators.parquet.
    for person in labelfix.audit_run(result.out).annotators.to_pylist():
        print(
            f"{person['annotator']}: {person['accuracy']:.1%} ({person['low']:.1%} to {person['high']:.1%})"
        )

    checked = labelfix.check_run(result.out, max_noise=0.3, max_fix_error=0.3)
    print("checks passed" if checked.passed else "\n".join(g.said for g in checked.gates if not g.passed))

    export = labelfix.export_run(result.out, folder / "relabelled", to="imagefolder", force=True)
    print(f"{export.path}: {export.summary['actions']}")


if __name__ == "__main__":
    main()
