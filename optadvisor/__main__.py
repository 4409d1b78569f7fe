"""`python -m optadvisor`"""

import sys

from optadvisor.cli.main import main

sys.exit(main())
