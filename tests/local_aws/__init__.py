"""Local AWS: builds the Lambdas, starts MiniStack and the EC2 endpoint, deploys template.yaml with the real SAM.

`python -m local_aws help` lists the commands. `local_aws.stack.LocalAws` offers the same to tests and the demo.
"""
