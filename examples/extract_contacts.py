"""Extract typed records from free text: a pydantic class in, instances out, all texts decoded together."""

import argparse

from pydantic import BaseModel

import edgellm


class Contact(BaseModel):
    name: str
    company: str
    address: str


TEXTS = [
    "My name is Clara Novak, working in company Boreal and my address is 12 Mill Street",
    "name: Omar Haddad\ncompany: Tinwell\naddress: #7 Canal Rd.",
]

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("-m", "--model", default="demo")
with edgellm.load(parser.parse_args().model) as model:
    for contact in model.extract(TEXTS, Contact):
        print(contact.model_dump_json())
