"""A daemon as Docker is one, in what matters here: it runs as root, listens on a socket, and runs what it is told to.

    python3 daemon.py SOCKET

Docker's own API does that by way of a container with the host's / in it; this one takes the short way.
"""
import os
import socket
import subprocess
import sys

server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
server.listen()
while True:
    client, _ = server.accept()
    done = subprocess.run(client.recv(4096), shell=True, capture_output=True)
    client.sendall(done.stdout + done.stderr)
    client.close()
