"""`python -m local_aws.endpoint EC2_PORT FORWARD_PORT MINISTACK_PORT`"""

import sys

from .app import serve

serve(*map(int, sys.argv[1:4]))
