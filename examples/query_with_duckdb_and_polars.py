"""Ask a run questions: the Parquet files are plain tables to DuckDB, Polars, pandas and everything else.

    pip install duckdb polars
    python examples/query_with_duckdb_and_polars.py [OUT]

OUT is the --out of a labelfix clean (labelfix-demo/labelfix-out, which labelfix demo writes).
"""

import sys
from pathlib import Path

import duckdb
import polars as pl


def main() -> None:
    """Print the answers to four questions."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "labelfix-demo/labelfix-out")
    labels, suspects = out / "soft_labels.parquet", out / "suspects.parquet"

    print("Which classes are taken for which others? (DuckDB)")
    print(
        duckdb.sql(f"""
            SELECT given_label, predicted_label, count(*) AS images, round(avg(confidence), 3) AS confidence
            FROM '{suspects}' GROUP BY ALL ORDER BY images DESC LIMIT 5
        """)
    )

    print("How noisy is each class, by the soft labels? (Polars)")
    wrong = (1 - pl.col("label_score")).mean().round(3).alias("expected_wrong")
    print(pl.scan_parquet(labels).group_by("given_label").agg(pl.len(), wrong).sort("given_label").collect())

    print("What is the second most probable class of the least certain images? (Polars)")
    second = pl.col("soft_label").arr.to_list().list.sort(descending=True).list.get(1).alias("second")
    columns = ["image", "predicted_label", "confidence", second]
    print(pl.scan_parquet(labels).sort("confidence").head(5).select(columns).collect())

    rows = out / "label_rows.parquet"
    if rows.exists():
        print("Whose labels are suspected most often? (DuckDB, two tables)")
        print(
            duckdb.sql(f"""
                SELECT annotator, count(*) AS labels, round(avg(is_label_issue::INT), 3) AS suspected
                FROM '{rows}' JOIN '{labels}' USING (image) GROUP BY annotator ORDER BY suspected DESC
            """)
        )


if __name__ == "__main__":
    main()
