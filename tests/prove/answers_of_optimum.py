"""Outputs of an exported folder in optimum, as JSON, in an environment of its own.

python answers_of_optimum.py FOLDER CLASS NAME < texts.json
"""

import json
import sys

from optimum import onnxruntime
from transformers import AutoTokenizer

folder, kind, name = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = getattr(onnxruntime, kind).from_pretrained(folder, subfolder="onnx", file_name=name)
found = []
for text, second in json.load(sys.stdin):
    given = [text, second] if second else [text]
    outputs = model(**tokenizer(*given, truncation=True, return_tensors="pt"))
    found.append({name: value[0].tolist() for name, value in outputs.items() if name != "loss"})
print(json.dumps(found))
