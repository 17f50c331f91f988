# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg train` as a script, for launchers of several processes.

accelerate launch --num_processes 4 scripts/train.py --recipe cgrseg-t-ade20k --data ADEChallengeData2016
"""

import sys

from cgrseg_hf.commands.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
