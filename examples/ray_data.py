"""More documents than one machine can read: a pool of Ray actors, each with a model of its own.

Needs `pip install 'edgellm[ray]'`; says so and stops without it. Here a cluster of one CPU on this machine stands for yours.
"""

import argparse
import sys

import edgellm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("-m", "--model", default="demo")
parser.add_argument("--actors", type=int, default=1, help="processes, each with the whole model in memory")
parser.add_argument("--cpus", type=int, default=1, help="CPUs of each, and so the threads of its model")
options = parser.parse_args()

try:
    import ray.data
except ImportError:
    print("This example needs Ray: pip install 'edgellm[ray]'")
    sys.exit()

ray.init(num_cpus=options.actors * options.cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False

texts = ["name: Ada\nlastname: Lovelace", "name: Alan\nlastname: Turing", "nothing here"]
documents = ray.data.from_items([{"text": text, "file": f"{number}.txt"} for number, text in enumerate(texts)])
answers = documents.map_batches(
    edgellm.Mapper,
    fn_constructor_args=("extract",),
    fn_constructor_kwargs={"model": options.model, "fields": "name, lastname"},
    compute=ray.data.ActorPoolStrategy(size=options.actors),
    num_cpus=options.cpus,
    batch_size=32,
)
for row in answers.take_all():
    print(row["file"], row["result"], row["error"] or "")
