"""Create missing buckets: python infra/buckets.py NAME ..."""

import sys

import boto3

store = boto3.client("s3", region_name="us-east-1")
existing = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
for name in set(sys.argv[1:]) - existing:
    store.create_bucket(Bucket=name)
