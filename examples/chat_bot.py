"""A streaming conversation: the history is a list of messages, and only what is new is computed at each turn."""

import argparse

import edgellm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("-m", "--model", default="demo")
history: list[edgellm.Message] = []
with edgellm.load(parser.parse_args().model, slots=1) as model:
    while True:
        try:
            question = input("you> ").strip()
        except EOFError:
            break
        if not question:
            continue
        history.append(edgellm.Message("user", question))
        stream = model.stream(history, sampling=edgellm.Sampling(temperature=0))
        for piece in stream:
            print(piece, end="", flush=True)
        print(f"\n  [{stream.reply.tokens} tokens, {stream.reply.shared_tokens} of the prompt were already computed]")
        history.append(edgellm.Message("assistant", stream.reply.text))
