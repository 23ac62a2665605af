"""Lets crew disks in by USB and nothing else; a process that can do nothing else reads each."""
