"""Make buckets where they are missing: python infra/buckets.py NAME ..."""

import sys

import boto3

store = boto3.client("s3", region_name="us-east-1")
there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
for name in set(sys.argv[1:]) - there:
    store.create_bucket(Bucket=name)
