"""Byte-level BPE of a given size, trained on texts:  train_bpe.py DOCUMENTS FOLDER SIZE

writes FOLDER/vocab.json and FOLDER/merges.txt in GPT-2's format. Pass training documents only."""

import sys
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer

documents, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
tokenizer = ByteLevelBPETokenizer()
files = sorted(str(path) for path in documents.rglob("*") if path.is_file())
tokenizer.train(files, vocab_size=size, min_frequency=2, show_progress=False)
if tokenizer.get_vocab_size() != size:
    raise SystemExit(f"{documents}: has text for {tokenizer.get_vocab_size()} tokens; expected {size}")
folder.mkdir(parents=True, exist_ok=True)
tokenizer.save_model(str(folder))
