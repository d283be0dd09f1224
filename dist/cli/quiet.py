"""Importing this, before the libraries, keeps their notes to their own developers out of a user's terminal."""

import logging
import warnings

warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|torchrec|fbgemm_gpu)\b")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|torchrec|fbgemm_gpu)\b")
for _name in ("torch.fx", "torchrec", "torch.distributed", "torch.multiprocessing"):
    logging.getLogger(_name).setLevel(logging.ERROR)
