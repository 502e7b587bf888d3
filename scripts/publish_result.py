"""Copy a finished run's submission and record to results/, where they are kept: checked first, same bytes each time.

python scripts/publish_result.py runs/tgs-cpu results/tgs/tgs-cpu --against sample_submission.csv

Without --against, as for made tiles, the record alone is copied.
"""

import argparse
import gzip
from pathlib import Path

from diapir.faults import raise_if_any
from diapir.predict.submission import check_submission
from diapir.runs import read_json, write_bytes, write_json


def main() -> None:
    """Check, compress, copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path, help="the sample submission")
    asked = parser.parse_args()
    if asked.against is not None:
        submission = asked.run / "submission.csv"
        raise_if_any(check_submission(submission, against=asked.against))
        write_bytes(asked.out / "submission.csv.gz", gzip.compress(submission.read_bytes(), compresslevel=9, mtime=0))
    record = read_json(asked.run / "record.json")
    write_json(asked.out / "record.json", record)
    print(f"{asked.out}: score {record['score']:.4f}, interval {record['interval_95']}")


if __name__ == "__main__":
    main()
