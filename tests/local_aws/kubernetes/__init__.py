"""A real Kubernetes control plane as part of local AWS: what it is made of, how it runs, and what tests do with it.

kube-apiserver, its controllers, scheduler and etcd are the real ones. Played are the nodes: kwok plays the kubelets, the
EC2 endpoint plays the cloud (see `endpoint/nodes.py`) and EKS's token authenticator (see `endpoint/eks.py`).
"""
