// Answers of transformers.js by an exported folder, as JSON.
//     node answers.mjs FOLDER NAME TASK DTYPE < texts.json
// TASK is a pipeline's, or `logits` for the model's outputs to pairs of texts.
import { readFileSync, writeSync } from "node:fs";
import * as transformers from "@huggingface/transformers";

const [folder, name, task, dtype] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(0, "utf-8"));
transformers.env.localModelPath = folder;
transformers.env.allowRemoteModels = false;

async function byModel(kind) {
  const tokenizer = await transformers.AutoTokenizer.from_pretrained(name);
  const model = await transformers[kind].from_pretrained(name, { dtype });
  const found = [];
  for (const [text, second] of texts) {
    const inputs = tokenizer(text, { text_pair: second || null, truncation: true });
    const outputs = await model(inputs);
    const named = Object.entries(outputs).filter(([, value]) => value?.tolist);
    found.push(Object.fromEntries(named.map(([key, value]) => [key, value.tolist()[0]])));
  }
  return found;
}

async function byPipeline() {
  const answer = await transformers.pipeline(task, name, { dtype });
  const found = [];
  for (const [text] of texts) {
    const options = task === "text-classification" ? { top_k: null } : {};
    const told = await answer(text, options);
    found.push(told.tolist ? told.tolist()[0] : told);
  }
  return found;
}

const found = await (task.startsWith("AutoModel") ? byModel(task) : byPipeline());
writeSync(1, JSON.stringify(found));
